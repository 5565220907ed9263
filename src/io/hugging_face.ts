/**
 * GPT-2 as Hugging Face stores it: read from and written to a folder or a safetensors file.
 *
 * @module
 */
export { parseConfig, readShape } from "./hugging_face/config.ts";
export { readHuggingFace, readHuggingFaceHeader } from "./hugging_face/read.ts";
export { checkTokens, ownTokenizerFiles, TOKENIZER_FILES } from "./hugging_face/tokenizer.ts";
export {
  CONFIG_FILE,
  INDEX_FILE,
  isHuggingFaceFolder,
  readIndex,
  WEIGHTS_FILE,
} from "./hugging_face/weights.ts";
export { writeHuggingFaceFile, writeHuggingFaceFolder } from "./hugging_face/write.ts";
