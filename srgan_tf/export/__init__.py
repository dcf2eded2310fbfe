"""Export: the generator in the forms that phones and servers run."""
