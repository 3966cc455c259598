"""Run folders: create, write, read and list them."""
