"""The pages: what they show runs, what they list is complete."""
