"""What many trained rows say beside each other."""
