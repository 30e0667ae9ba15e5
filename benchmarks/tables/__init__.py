"""Tables, pictures and pages, from committed results alone."""
