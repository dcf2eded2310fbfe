// Overlapping tiles of equal size whose results join seamlessly.

/** Returns the length of the tiles along an axis of `length` pixels, where each starts, and its written part. */
function cutAxis(length, longest, overlap) {
  const inner = Math.max(1, length - 2 * overlap);
  const count = Math.ceil(inner / (longest - 2 * overlap));
  const side = count === 1 ? length : Math.ceil(inner / count) + 2 * overlap;
  const cuts = [];
  let written = 0;
  for (let index = 0; index < count; index++) {
    const start = Math.min(index * (side - 2 * overlap), length - side);
    const to = index === count - 1 ? length : start + side - overlap;
    cuts.push({ start, from: written, to });
    written = to;
  }
  return { side, cuts };
}

/**
 * Cuts an image into tiles.
 * @returns {{width: number, height: number, tiles: object[]}} The size of the tiles, and for each its position
 *   x and y, and left, top, right and bottom of the part of the image that its result is written to.
 */
export function cut(width, height, longest, overlap) {
  const columns = cutAxis(width, longest, overlap);
  const rows = cutAxis(height, longest, overlap);
  const tiles = rows.cuts.flatMap((row) =>
    columns.cuts.map((column) => ({
      x: column.start,
      y: row.start,
      left: column.from,
      right: column.to,
      top: row.from,
      bottom: row.to,
    })),
  );
  return { width: columns.side, height: rows.side, tiles };
}
