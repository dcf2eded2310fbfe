"""Image file formats: containers, EXIF, colour and decoding."""
