"""Editors that are learnt: what they read, what they answer, and the one trainer for all of them."""
