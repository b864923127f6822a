"""The self-contained page: what is shown and how, in HTML, CSS and JavaScript beside the Python that fills it."""
