"""What people look at: a scored output in a terminal or on a page, and the parts that every page is made of."""
