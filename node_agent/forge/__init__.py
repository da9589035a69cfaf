"""Pull requests at the forge that has the repository: which it is, who asks, what it says."""
