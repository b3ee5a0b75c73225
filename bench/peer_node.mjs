// Times llama.cpp through the npm package node-llama-cpp, for bench/compare.py.
//
//   node peer_node.mjs FOLDER MODEL.gguf OPTIONS
//
// FOLDER holds node_modules/node-llama-cpp. OPTIONS is JSON: {threads, batch, kv, context, states}.
// Reads one request a line from standard input, {kind: "pp" | "tg", tokens, depth}, and answers
// each with one line, {tok_s} or {error}; the model stays loaded in between. States of a depth are
// computed once and kept in the folder `states`.
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import {pathToFileURL} from "node:url";

const [folder, modelPath, optionsText] = process.argv.slice(2);
const options = JSON.parse(optionsText);
const entry = path.resolve(folder, "node_modules/node-llama-cpp/dist/index.js");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(entry));

const llama = await getLlama({
  gpu: false, build: "never", maxThreads: 0, logLevel: LlamaLogLevel.error, progressLogs: false,
});
const model = await llama.loadModel({modelPath, gpuLayers: 0, useMmap: true});
const context = await model.createContext({
  contextSize: options.context, batchSize: options.batch, flashAttention: true,
  threads: {ideal: options.threads, min: options.threads},
  experimentalKvCacheKeyType: options.kv.toUpperCase(),
  experimentalKvCacheValueType: options.kv.toUpperCase(),
});
const sequence = context.getSequence({checkpoints: {max: 1, interval: false}});

// Ids spread over the vocabulary, so that routing varies as in real text.
const vocabulary = 100000;
const mask = (1n << 64n) - 1n;
function spreadTokens(count) {
  let x = 88172645463325252n;
  return Array.from({length: count}, () => {
    x ^= (x << 13n) & mask;
    x ^= x >> 7n;
    x ^= (x << 17n) & mask;
    return Number(x % BigInt(vocabulary));
  });
}
const tokens = spreadTokens(options.context);
const greedy = {temperature: 0, yieldEogToken: true};

async function goTo(depth) {
  await sequence.clearHistory();
  if (depth === 0) return;
  const name = `${path.basename(modelPath)}.${options.kv}.${depth}.state`;
  const file = path.join(options.states, name);
  if (!fs.existsSync(file)) {
    await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, depth));
    await sequence.saveStateToFile(file);
    await sequence.clearHistory();
  }
  await sequence.loadStateFromFile(file, {acceptRisk: true});
}

// The prompt's tokens, until the logits of the last are there.
async function prefill(count, depth) {
  const start = performance.now();
  const answer = sequence.evaluate(tokens.slice(depth, depth + count), greedy);
  await answer.next();
  const seconds = (performance.now() - start) / 1e3;
  await answer.return?.();
  return count / seconds;
}

// `count` tokens one by one; the step before them makes everything ready and is not timed.
async function decode(count, depth) {
  const answer = sequence.evaluate([tokens[depth]], greedy);
  await answer.next();
  const start = performance.now();
  for (let i = 0; i < count; ++i) await answer.next(tokens[(depth + i) % tokens.length]);
  const seconds = (performance.now() - start) / 1e3;
  await answer.return?.();
  return count / seconds;
}

for await (const line of readline.createInterface({input: process.stdin})) {
  let reply;
  try {
    const {kind, tokens: count, depth} = JSON.parse(line);
    await goTo(depth);
    reply = {tok_s: await (kind === "pp" ? prefill : decode)(count, depth)};
  } catch (error) {
    reply = {error: String(error)};
  }
  console.log(JSON.stringify(reply));
}
process.exit(0);
