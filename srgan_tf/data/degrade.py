"""Where training/callbacks.py still looks for bicubic upscaling."""

from srgan_tf.resize import bicubic_upscale as bicubic_upscale
