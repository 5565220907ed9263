/**
 * A new model's weights, drawn as PyTorch draws them.
 *
 * @module
 */
import type { GPT2Config } from "./config.ts";
import { type TensorName, TENSORS, type TensorSpec } from "./parameters.ts";
import { Random } from "./random.ts";

/**
 * Initializes all parameters as GPT-2 does: weights normal(0, 0.02), those of the two projections into the residual
 * stream scaled by 1/sqrt(2L) (Radford et al. 2019), biases 0, LayerNorm weights 1. The same seed gives the weights of
 * llm.c's PyTorch script to 1e-6 of their standard deviation: wte and wpe are drawn first, then layer by layer each
 * matrix in checkpoint order. The padding rows of wte stay zero.
 *
 * @param view the numbers of a tensor, or of one layer of a stacked tensor, to be filled in place
 * @param seed 0 … 2^32 - 1
 */
export function initializeParameters(
  config: GPT2Config,
  view: (name: TensorName, layer?: number) => Float32Array,
  seed: number,
): void {
  const random = new Random(seed);
  const fill = (spec: TensorSpec<TensorName>, layer?: number): void => {
    const values = view(spec.name, layer);
    switch (spec.init) {
      case "one":
        values.fill(1);
        break;
      case "zero":
        values.fill(0);
        break;
      case "residual":
        random.normal(values, 0, 0.02 / Math.sqrt(2 * config.L));
        break;
      case "normal": {
        const drawn = spec.name === "wte" ? config.V * config.C : values.length;
        random.normal(values.subarray(0, drawn), 0, 0.02);
        values.fill(0, drawn);
      }
    }
  };

  const stacked = TENSORS.filter((spec) => spec.stacked);
  const single = TENSORS.filter((spec) => !spec.stacked);
  for (const spec of single) fill(spec); // wte, wpe; the final LayerNorm draws nothing
  for (let layer = 0; layer < config.L; layer++) {
    for (const spec of stacked) fill(spec, layer);
  }
}
