// Client paths in Node: as python_paths.py, one JSON line per call on standard input, one for its result on standard output.
import readline from 'node:readline';
import Anthropic from '@anthropic-ai/sdk';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { ChatOpenAI } from '@langchain/openai';
import { generateText, jsonSchema, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { Agent, fetch as undiciFetch } from 'undici';

const QUESTION = 'hi';
const MESSAGES = [{ role: 'user', content: QUESTION }];
const PARAMETERS = { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] };
const TOOLS = [{ type: 'function', function: { name: 'f', description: 'the tool', parameters: PARAMETERS } }];
const ANTHROPIC_TOOLS = [{ name: 'f', description: 'the tool', input_schema: PARAMETERS }];
const RESPONSES_TOOLS = [{ type: 'function', name: 'f', description: 'the tool', parameters: PARAMETERS, strict: false }];
const TIMEOUT_SECONDS = 60;

const withTools = (call, tools, options) => (call.tools ? { ...options, tools } : options);

// Node's own fetch gives up after 300 s without a byte, whatever the SDK's time-out: here the same limit, shorter.
const fetchOf = (call) =>
  call.silence
    ? {
        fetch: undiciFetch,
        fetchOptions: { dispatcher: new Agent({ headersTimeout: call.silence * 1000, bodyTimeout: call.silence * 1000 }) },
      }
    : {};

const clientOptions = (call) => ({
  apiKey: 'x',
  maxRetries: call.retries,
  timeout: call.timeout * 1000,
  defaultHeaders: call.headers,
  ...fetchOf(call),
});
const openai = (call) => new OpenAI({ baseURL: call.url, ...clientOptions(call) });
const anthropic = (call) => new Anthropic({ baseURL: call.base, ...clientOptions(call) });

const ofMessage = (message, more) => ({
  text: message.content ?? '',
  content: message.content ?? null,
  tools: (message.tool_calls ?? []).map((c) => [c.function.name, JSON.parse(c.function.arguments)]),
  role: message.role,
  ...more,
});

async function summed(stream) {
  let text = '';
  let usage = null;
  let finish = null;
  const calls = new Map();
  for await (const chunk of stream) {
    usage = chunk.usage?.total_tokens ?? usage;
    for (const choice of chunk.choices) {
      text += choice.delta.content ?? '';
      for (const part of choice.delta.tool_calls ?? []) {
        const [name, args] = calls.get(part.index) ?? ['', ''];
        calls.set(part.index, [name + (part.function.name ?? ''), args + (part.function.arguments ?? '')]);
      }
      finish = choice.finish_reason ?? finish;
    }
  }
  return { text, usage, finish, tools: [...calls.values()].map(([name, args]) => [name, JSON.parse(args)]) };
}

async function vercel(call, model) {
  const tools = { f: tool({ description: 'the tool', inputSchema: jsonSchema(PARAMETERS) }) };
  const asked = { model, messages: MESSAGES, maxRetries: call.retries, headers: call.headers, ...(call.tools ? { tools } : {}) };
  if (!call.stream) {
    const { text, usage } = await generateText(asked);
    return { text, usage: usage.totalTokens };
  }
  let error;
  // What the stream said comes here first; what is thrown afterwards only says that it ended.
  const answer = streamText({ ...asked, onError: (event) => (error ??= event.error) });
  let text = '';
  try {
    for await (const part of answer.textStream) text += part;
  } catch (thrown) {
    error ??= thrown;
  }
  if (error) throw error;
  const toolCalls = await answer.toolCalls;
  return {
    text,
    tools: toolCalls.map((c) => [c.toolName, c.input]),
    usage: (await answer.usage).totalTokens ?? null,
    finish: (await answer.finishReason).replace('-', '_'),
  };
}

const PATHS = {
  async node_chat(call) {
    const asked = await openai(call).chat.completions.create(
      withTools(call, TOOLS, { model: call.model, messages: MESSAGES, stream: call.stream }),
    );
    return call.stream ? summed(asked) : ofMessage(asked.choices[0].message, { usage: asked.usage.total_tokens });
  },
  async node_chat_helper(call) {
    const stream = openai(call).chat.completions.stream(withTools(call, TOOLS, { model: call.model, messages: MESSAGES }));
    const final = await stream.finalChatCompletion();
    const [{ message, finish_reason: finish }] = final.choices;
    return ofMessage(message, { id: final.id, usage: final.usage?.total_tokens ?? null, finish });
  },
  async node_chat_first_choice(call) {
    let text = '';
    const asked = await openai(call).chat.completions.create({ model: call.model, messages: MESSAGES, stream: true });
    for await (const chunk of asked) text += chunk.choices[0].delta.content ?? '';
    return { text };
  },
  vercel_openai_chat: (call) => vercel(call, createOpenAI({ baseURL: call.url, apiKey: 'x' }).chat(call.model)),
  vercel_compatible_chat: (call) =>
    vercel(call, createOpenAICompatible({ name: 'n', baseURL: call.url, apiKey: 'x', includeUsage: true })(call.model)),
  async langchainjs_chat(call) {
    const model = new ChatOpenAI({
      configuration: { baseURL: call.url, defaultHeaders: call.headers, ...fetchOf(call) },
      apiKey: 'x',
      model: call.model,
      maxRetries: call.retries,
      timeout: call.timeout * 1000,
    });
    const bound = call.tools ? model.bindTools(TOOLS) : model;
    let total;
    if (call.stream) for await (const chunk of await bound.stream(QUESTION)) total = total ? total.concat(chunk) : chunk;
    else total = await bound.invoke(QUESTION);
    return {
      text: total.content,
      tools: (total.tool_calls ?? []).map((c) => [c.name, c.args]),
      usage: total.usage_metadata?.total_tokens ?? null,
    };
  },

  async node_completions(call) {
    let text = '';
    const asked = await openai(call).completions.create({ model: call.model, prompt: QUESTION, stream: true });
    for await (const chunk of asked) text += chunk.choices[0].text;
    return { text };
  },
  vercel_completions: (call) => vercel(call, createOpenAI({ baseURL: call.url, apiKey: 'x' }).completion(call.model)),

  async node_anthropic_messages(call) {
    const asked = await anthropic(call).messages.create(
      withTools(call, ANTHROPIC_TOOLS, { model: call.model, max_tokens: 16, messages: MESSAGES, stream: call.stream }),
    );
    if (!call.stream) return { text: asked.content[0].text, id: asked.id };
    let text = '';
    for await (const event of asked) if (event.delta?.type === 'text_delta') text += event.delta.text;
    return { text };
  },
  async node_anthropic_messages_helper(call) {
    const message = await anthropic(call)
      .messages.stream(withTools(call, ANTHROPIC_TOOLS, { model: call.model, max_tokens: 16, messages: MESSAGES }))
      .finalMessage();
    return {
      text: message.content.map((block) => block.text ?? '').join(''),
      tools: message.content.filter((block) => block.type === 'tool_use').map((block) => [block.name, block.input]),
      usage: message.usage.input_tokens + message.usage.output_tokens,
      id: message.id,
      role: message.role,
    };
  },
  vercel_anthropic_messages: (call) => vercel(call, createAnthropic({ baseURL: call.url, apiKey: 'x' })(call.model)),

  async node_responses(call) {
    const asked = await openai(call).responses.create(
      withTools(call, RESPONSES_TOOLS, { model: call.model, input: QUESTION, stream: true }),
    );
    let text = '';
    let args = '';
    let usage = null;
    for await (const event of asked) {
      if (event.type === 'response.output_text.delta') text += event.delta;
      if (event.type === 'response.function_call_arguments.delta') args += event.delta;
      if (event.type === 'response.completed') usage = event.response.usage.total_tokens;
    }
    return { text, usage, tools: args ? [['f', JSON.parse(args)]] : [] };
  },
  async node_responses_helper(call) {
    const final = await openai(call)
      .responses.stream(withTools(call, RESPONSES_TOOLS, { model: call.model, input: QUESTION }))
      .finalResponse();
    return {
      text: final.output_text,
      tools: final.output.filter((item) => item.type === 'function_call').map((item) => [item.name, JSON.parse(item.arguments)]),
      usage: final.usage.total_tokens,
      id: final.id,
    };
  },
  vercel_responses: (call) => vercel(call, createOpenAI({ baseURL: call.url, apiKey: 'x' }).responses(call.model)),
};

function errorOf(error) {
  const kinds = [];
  if (error?.name) kinds.push(error.name);
  for (let of = error; of && of !== Object.prototype; of = Object.getPrototypeOf(of)) {
    const name = of.constructor?.name;
    if (name && !kinds.includes(name)) kinds.push(name);
  }
  return {
    error: {
      kinds,
      status: error?.status ?? error?.statusCode ?? error?.lastError?.statusCode ?? null,
      code: error?.code ?? null,
      message: String(error?.message ?? JSON.stringify(error)).slice(0, 400),
      cause: error?.cause ? String(error.cause).slice(0, 200) : null,
    },
  };
}

// Some libraries reject a promise that no one holds beside the one that is awaited, and print what they throw.
process.on('unhandledRejection', () => {});
console.log = console.warn = console.error = () => {};

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const { number, path, call } = JSON.parse(line);
  const filled = { model: 'm', stream: true, tools: false, retries: 0, timeout: TIMEOUT_SECONDS, headers: {}, ...call };
  const result = await PATHS[path]({ ...filled, url: `${filled.base}/v1` }).catch(errorOf);
  process.stdout.write(JSON.stringify({ number, result }) + '\n');
});
