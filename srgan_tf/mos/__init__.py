"""The mean-opinion-score study: its design, its web app for raters, and its analysis."""
