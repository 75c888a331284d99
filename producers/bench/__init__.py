"""`mpsr bench`: a real hub, real producer processes, a real disk, and what they do together."""
