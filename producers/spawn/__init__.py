"""The supervisor behind `mpsr spawn`: children, their output as messages, their ends and what follows from them."""
