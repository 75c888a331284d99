"""The supervisor of `mpsr spawn`: starts children, sends their output as messages, restarts and stops them."""
