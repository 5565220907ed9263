/**
 * Agreement with PyTorch: a model's logits, loss, gradients and first ten steps beside those of a debug state.
 *
 * @module
 */
import { allocateActivations } from "./activations.ts";
import { createAdamW } from "./adamw.ts";
import type { DebugState } from "./io/debug_state.ts";
import { backward, forward, logits, type Model } from "./model.ts";
import { allocateParameters, type Parameters, type TensorName, TENSORS } from "./parameters.ts";
import { difference, type Tolerance } from "./verify/difference.ts";
import type { ExpectedLosses } from "./verify/expected_losses.ts";
import { gradientsFinding, logitsFinding, lossFinding, stepsFinding } from "./verify/findings.ts";

interface Tolerances {
  readonly logits: Tolerance;
  readonly loss: Tolerance;
  readonly gradients: Tolerance;
  /** Of the ten steps. */
  readonly losses: Tolerance;
}

/** By precision. bf16's are what PyTorch's own bf16 autocast keeps to (dev/reference/gpt2.py measures it). */
const TOLERANCES: Readonly<Record<"fp32" | "bf16", Tolerances>> = {
  fp32: {
    logits: { measure: "maxAbs", bound: 1e-3 },
    loss: { measure: "maxAbs", bound: 1e-5 },
    gradients: { measure: "relativeL2", bound: 1e-5 },
    losses: { measure: "maxAbs", bound: 1e-4 },
  },
  bf16: {
    logits: { measure: "relativeL2", bound: 2e-2 },
    loss: { measure: "maxAbs", bound: 1e-2 },
    gradients: { measure: "relativeL2", bound: 3e-2 },
    losses: { measure: "maxAbs", bound: 1e-2 },
  },
};

/** llm.c's own for its state of the released GPT-2 124M in fp32, which was computed elsewhere, on a GPU. */
const RELEASED_TOLERANCES: Tolerances = {
  logits: { measure: "maxAbs", bound: 1e-2 },
  loss: { measure: "maxAbs", bound: 1e-2 },
  gradients: { measure: "relativeL2", bound: 2e-2 },
  losses: { measure: "maxAbs", bound: 1e-2 },
};

/** A comparison of one tensor. */
export interface Check {
  /** `logits`, `loss`, or a gradient: `dwte` … `dlnfb`. */
  readonly name: string;
  readonly maxAbs: number;
  readonly relativeL2: number;
  readonly tolerance: Tolerance;
  readonly ok: boolean;
}

/** A comparison of the loss before one step. */
export interface StepCheck {
  /** From 0. */
  readonly step: number;
  readonly actual: number;
  readonly expected: number;
  readonly tolerance: Tolerance;
  readonly ok: boolean;
}

/** What {@linkcode verify} found. */
export interface Verification {
  /** Logits, loss and the 16 gradients, in this order. */
  readonly checks: readonly Check[];
  /** Empty where nothing was expected. */
  readonly steps: readonly StepCheck[];
  /** What the failures point to, in words; empty where there are none. */
  readonly findings: readonly string[];
  /** Whether all that was compared agrees. */
  readonly okay: boolean;
}

/** What {@linkcode verify} takes. */
export interface VerifyOptions {
  /** Whether fp32 products round their factors (TF32): compared with bf16's tolerances. Default no. */
  readonly rounded?: boolean;
  /** What ten steps must give; without it none are taken. */
  readonly expected?: ExpectedLosses | undefined;
  /** Called with each comparison as it is made. */
  readonly onCheck?: (check: Check) => void;
  /** Called with each step's loss as it is compared. */
  readonly onStep?: (check: StepCheck) => void;
}

/**
 * Runs the model forward and backward on a state's batch and compares, then takes the steps and compares. The model's
 * parameters are changed by the steps.
 *
 * @throws {LlmtsError} there is not enough memory
 */
export function verify(model: Model, state: DebugState, options: VerifyOptions = {}): Verification {
  const { expected, rounded = false, onCheck, onStep } = options;
  const tolerances = expected?.released === true && model.precision === "fp32"
    ? RELEASED_TOLERANCES
    : TOLERANCES[rounded ? "bf16" : model.precision];
  const pass = createPass(model, state);
  const { checks, findings } = compareFirstPass(pass, state, tolerances, onCheck);
  const steps = expected === undefined ? [] : takeSteps(model, pass, expected, tolerances.losses, onStep);
  const wrong = steps.findIndex(({ ok }) => !ok);
  // Where the first pass is off the steps are too, and only the first finding tells why.
  if (expected !== undefined && wrong >= 0 && findings.length === 0) {
    findings.push(stepsFinding(expected, state, wrong));
  }
  return { checks, steps, findings, okay: wrong < 0 && checks.every(({ ok }) => ok) };
}

/** A training step's passes over the state's batch. */
interface Pass {
  readonly gradients: Parameters;
  forward(): void;
  /** (B,T,V), in memory of their own. */
  logits(): Float32Array;
  /** A gradient's elements, after backward. */
  gradient(name: TensorName): Float32Array;
  /** Fills the gradients and returns the loss. */
  backward(): number;
}

function createPass(model: Model, { B, T, ...batch }: DebugState): Pass {
  const { config, device, precision } = model;
  const shape = { B, T, precision, training: true as const };
  const a = allocateActivations(config, device, shape);
  const gradients = allocateParameters(config, device, "fp32");
  const [tokens, targets] = [device.tensor("int32", [B, T]), device.tensor("int32", [B, T])];
  device.write(tokens, batch.tokens);
  device.write(targets, batch.targets);
  return {
    gradients,
    forward: (): void => forward(model, a, tokens),
    logits(): Float32Array {
      const out = device.tensor("fp32", [B, T, config.V]);
      logits(model, a, out);
      return device.read(out);
    },
    gradient: (name): Float32Array => device.read(gradients.whole[name]),
    backward: (): number => backward(model, a, gradients, tokens, targets, { accumulate: false }),
  };
}

/** Logits, loss and gradients. There is a finding on the first of the three that is off: the others follow from it. */
function compareFirstPass(
  pass: Pass,
  state: DebugState,
  tolerances: Tolerances,
  onCheck: (check: Check) => void = () => {},
): { checks: Check[]; findings: string[] } {
  const checks: Check[] = [];
  const findings: string[] = [];
  const compare = (name: string, tolerance: Tolerance, actual: Float32Array, expected: Float32Array) => {
    const { at, ...measured } = difference(actual, expected);
    const check = { name, ...measured, tolerance, ok: measured[tolerance.measure] <= tolerance.bound };
    checks.push(check);
    onCheck(check);
    return { ok: check.ok, fault: { name, at, actual: actual[at]!, expected: expected[at]! } };
  };

  pass.forward();
  const [actual, expected] = [pass.logits(), state.logits()];
  if (!compare("logits", tolerances.logits, actual, expected).ok) {
    findings.push(logitsFinding(actual, expected, state, tolerances.logits));
  }
  const loss = pass.backward();
  const { ok } = compare("loss", tolerances.loss, Float32Array.of(loss), Float32Array.of(state.loss));
  if (!ok && findings.length === 0) findings.push(lossFinding(loss, state));
  const faults = TENSORS.map(({ name }) =>
    // Whole, with wte's padding rows, which must be zero on both sides.
    compare(
      `d${name}`,
      tolerances.gradients,
      pass.gradient(name),
      state.gradient(name),
    )
  ).filter(({ ok }) => !ok).map(({ fault }) => fault);
  if (faults.length > 0 && findings.length === 0) findings.push(gradientsFinding(faults));
  return { checks, findings };
}

/** The loss before each step, beside the expected one. */
function takeSteps(
  model: Model,
  pass: Pass,
  expected: ExpectedLosses,
  tolerance: Tolerance,
  onStep: (check: StepCheck) => void = () => {},
): StepCheck[] {
  const optimizer = createAdamW(model, expected.decay === "all" ? () => true : undefined);
  return expected.losses.map((value, step) => {
    pass.forward();
    const actual = pass.backward();
    optimizer.update(pass.gradients, { ...expected.constants, gradScale: 1 });
    const check = {
      step,
      actual,
      expected: value,
      tolerance,
      ok: difference(Float32Array.of(actual), Float32Array.of(value))[tolerance.measure] <= tolerance.bound,
    };
    onStep(check);
    return check;
  });
}
