"""Tiles cover an image exactly once, with enough overlap."""

from hypothesis import given
from hypothesis import strategies as st

from srgan_tf.inference import tiles


@given(
    size=st.integers(1, 5000),
    side=st.integers(1, 600),
    overlap=st.integers(0, 50),
    scale=st.sampled_from([2, 4, 8]),
)
def test_cuts_cover_an_axis_once(size, side, overlap, scale):
    cuts = tiles._cut_axis(size, scale, side, overlap)
    written = 0
    for read, crop, write in cuts:
        assert write.start == written and write.stop > write.start
        written = write.stop
        assert read.start >= 0 and read.stop <= size
        assert read.stop - read.start == cuts[0][0].stop - cuts[0][0].start <= side + 2 * overlap
        assert scale * read.start + crop.start == write.start
        assert crop.stop - crop.start == write.stop - write.start
        assert read.start == 0 or crop.start >= scale * overlap
        assert read.stop == size or scale * read.stop - write.stop >= scale * overlap
    assert written == scale * size
