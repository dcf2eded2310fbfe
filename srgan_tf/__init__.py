"""SRGAN (Ledig et al. 2017): photo-realistic super-resolution in TensorFlow."""
