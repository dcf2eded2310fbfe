"""What image files hold around their pixels: containers, EXIF and colour."""
