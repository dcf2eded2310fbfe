/**
 * Changes the input size of a convolutional .tflite model in place, as LiteRT.js supports only fixed sizes. A
 * model is a FlatBuffer: Model.subgraphs (field 2), their tensors (0), their shape (0).
 * @param {Uint8Array} model with tensors [1, k · side, k · side, C], which become
 *   [1, k · height, k · width, C].
 */
export function setInputSize(model, side, width, height) {
  const view = new DataView(model.buffer, model.byteOffset, model.byteLength);
  const follow = (at) => at + view.getUint32(at, true);
  const field = (table, number) => {
    const vtable = table - view.getInt32(table, true);
    const entry = 4 + 2 * number;
    const offset = entry < view.getUint16(vtable, true) ? view.getUint16(vtable + entry, true) : 0;
    return offset && follow(table + offset);
  };
  const items = (vector) => Array.from({ length: view.getUint32(vector, true) }, (_, i) => vector + 4 + 4 * i);
  for (const subgraph of items(field(follow(0), 2)).map(follow))
    for (const tensor of items(field(subgraph, 0)).map(follow)) {
      const shape = field(tensor, 0);
      const dimensions = shape ? items(shape) : [];
      const [n, h, w] = dimensions.map((at) => view.getInt32(at, true));
      if (dimensions.length !== 4 || n !== 1 || h !== w || h % side) continue;
      view.setInt32(dimensions[1], (h / side) * height, true);
      view.setInt32(dimensions[2], (w / side) * width, true);
    }
}
