"""What a comparison looks like: tables, figures, files."""
