"""Markdown tables."""

from srgan_tf.markdown import markdown_table


def test_a_table_with_numbers_at_the_right():
    table = markdown_table(["set", "dB", "SSIM"], [("Set5", "32.05", "0.9")], left=1)
    assert table == "| set | dB | SSIM |\n| --- | --: | --: |\n| Set5 | 32.05 | 0.9 |"
    assert markdown_table(["a", "b"], []) == "| a | b |\n| --- | --- |"
