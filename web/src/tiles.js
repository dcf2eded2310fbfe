// Overlapping tiles of one fixed size whose results join without a seam.

/** Where tiles start along an axis of `length` pixels, and what of each is written. */
function cutAxis(length, side, overlap) {
  if (length <= side) return [{ start: 0, from: 0, to: length }];
  const step = side - 2 * overlap;
  const count = Math.ceil((length - 2 * overlap) / step);
  const cuts = [];
  let written = 0;
  for (let index = 0; index < count; index++) {
    const start = Math.min(index * step, length - side);
    const to = index === count - 1 ? length : start + side - overlap;
    cuts.push({ start, from: written, to });
    written = to;
  }
  return cuts;
}

/**
 * Tiles that cover an image.
 * @returns {{x: number, y: number, left: number, top: number, right: number, bottom: number}[]}
 *   x and y: where a tile is read; the rest: the part of the image that its result is right for.
 */
export function cut(width, height, side, overlap) {
  const columns = cutAxis(width, side, overlap);
  return cutAxis(height, side, overlap).flatMap((row) =>
    columns.map((column) => ({
      x: column.start,
      y: row.start,
      left: column.from,
      right: column.to,
      top: row.from,
      bottom: row.to,
    })),
  );
}

/** Of the sizes, the one at which the fewest pixels are computed. */
export function bestSide(width, height, sides, overlap) {
  const cost = (side) => cut(width, height, side, overlap).length * side * side;
  return sides.filter((side) => side > 2 * overlap).sort((a, b) => cost(a) - cost(b) || a - b)[0];
}
