/** Biases of keys have gradients of 0, so that what is computed is rounding, and Adam makes steps of it. For tests. */
export const isNoise = (name: string) => /attn\.(k|c_attn)\.bias$/.test(name);
