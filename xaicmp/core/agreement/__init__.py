"""How far two maps agree, and the controls that the agreement is held against."""
