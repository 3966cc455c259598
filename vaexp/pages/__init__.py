"""HTML pages: what they hold, and the one template that writes them. No module here needs torch."""
