"""The k trained values: apply them, train them exactly, switch between them and store them."""
