"""Mean-opinion-score studies: design, web app and analysis."""
