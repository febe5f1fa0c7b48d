// The page as a user has it: run by run.sh, which starts the server. Each check says what it is about;
// the first that does not hold ends the test.
import assert from "node:assert/strict";
import {execFileSync} from "node:child_process";
import {mkdtempSync, rmSync} from "node:fs";
import {createRequire} from "node:module";
import {tmpdir} from "node:os";
import {join} from "node:path";

const {PAGE_URL: url, PAGE_KEY: key, PAGE_WORK: work} = process.env;
const {chromium} = createRequire(join(work, "package.json"))("playwright-core");

const profile = mkdtempSync(join(tmpdir(), "page-test-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  viewport: {width: 1280, height: 800},
});
context.setDefaultTimeout(60000);
const page = context.pages()[0] ?? await context.newPage();

// What no check may leave behind.
const strangers = [];
const complaints = [];
page.on("request", request => {
  if (!request.url().startsWith(url) && !request.url().startsWith("data:")) strangers.push(request.url());
});
page.on("pageerror", error => complaints.push(String(error)));
page.on("console", message => {
  // A refused request is one of ours; what the policy forbids would be a mistake.
  if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
    complaints.push(message.text());
  }
});

async function check(what, body) {
  try {
    await body();
  } catch (error) {
    await page.screenshot({path: join(work, "failed.png")});
    console.error(`FAILED: ${what}`);
    throw error;
  }
  console.log(`ok: ${what}`);
}

const text = selector => page.locator(selector).textContent();
const answers = page.locator(".turn.assistant");
// Until the function, in the page, is true.
const until = (condition, argument) => page.waitForFunction(condition, argument, {timeout: 60000});
const complete = count => until(
  n => document.querySelectorAll('.turn.assistant[aria-busy="false"]').length === n, count);
const post = (body, withKey = true) => fetch(`${url}/v1/chat/completions`, {
  method: "POST", headers: withKey ? {Authorization: `Bearer ${key}`} : {}, body: JSON.stringify(body)});
const settle = () => until(() => document.querySelector("#running").textContent === "0");
const question = "What is the capital of France?";

try {
  await page.goto(url);

  await check("it says when the server is ready, and asks for the key that the server wants", async () => {
    await until(() => document.querySelector("#state").textContent === "ready");
    await page.locator("#key").waitFor();
  });

  await check("a refusal is shown in the server's words, and the message is not lost", async () => {
    const {error} = await (await post({messages: [{role: "user", content: "Hi"}]}, false)).json();
    await page.fill("#input", question);
    await page.press("#input", "Enter");
    await until(() => !document.querySelector("#error").hidden);
    assert.equal(await text("#error"), error.message);
    assert.equal(await page.inputValue("#input"), question);
    assert.equal(await page.locator(".turn").count(), 0);
  });

  await check("with the key it names the model", async () => {
    await page.fill("#key", key);
    await page.press("#key", "Tab");
    await until(() => document.querySelector("#model").textContent.includes("context"));
  });

  let first;
  await check("an answer streams, and is the one that the API gives", async () => {
    const body = {messages: [{role: "user", content: question}], temperature: 0, max_tokens: 24};
    const expected = (await (await post(body)).json()).choices[0].message.content;
    await page.click("#settings summary");
    await page.fill("#temperature", "0");
    await page.fill("#max_tokens", "24");
    await page.evaluate(() => {
      globalThis.lengths = new Set();
      new MutationObserver(() => {
        for (const turn of document.querySelectorAll(".turn.assistant .text")) lengths.add(turn.textContent.length);
      }).observe(document.querySelector("#log"), {subtree: true, childList: true});
    });
    await page.press("#input", "Enter");
    await complete(1);
    first = await answers.nth(0).locator(".text").textContent();
    assert.equal(first, expected);
    assert.ok(await page.evaluate(() => lengths.size) >= 4, "it came in several pieces");
    assert.match(await text("#answer-note"), /\d+ tokens · .*\/s · first after/);
    assert.equal(await page.locator("#error").isVisible(), false);
  });

  await check("the next answer knows the conversation and the system prompt, and Shift+Enter is a line", async () => {
    // Long enough for the beginning that the turns share to fill a page of 64 tokens.
    const system = "Answer in one word, in English, without an explanation, an example or a list, without a full " +
                   "stop at the end, and without saying the question again.";
    const messages = [{role: "system", content: system}, {role: "user", content: question},
                      {role: "assistant", content: first}, {role: "user", content: "And of\nItaly?"}];
    const expected = (await (await post({messages, temperature: 0, max_tokens: 24})).json()).choices[0].message.content;
    await page.fill("#system", system);
    await page.focus("#input");
    await page.keyboard.type("And of");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("Italy?");
    await page.keyboard.press("Enter");
    await complete(2);
    assert.equal(await answers.nth(1).locator(".text").textContent(), expected);
  });

  await check("curl, as copied, runs and has the settings but not the key", async () => {
    await context.grantPermissions(["clipboard-read", "clipboard-write"], {origin: url});
    await page.fill("#input", "It's $HOME and `date`");
    await page.fill("#seed", "7");
    await page.click("#curl-box summary");
    await page.click("#copy");
    await until(() => document.querySelector("#copy-note").textContent === "Copied.");
    const command = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(command, await text("#curl"));
    assert.ok(!command.includes(key));
    const shown = execFileSync("sh", ["-c", command], {
      env: {...process.env, LLAMA_TG_API_KEY: key}, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"]});
    assert.ok(shown.trim().endsWith("data: [DONE]"), shown);
    const body = JSON.parse(execFileSync("sh", ["-c", command.replace(/^curl[^]*?-d /, "printf %s ")], {encoding: "utf8"}));
    assert.equal(body.messages.at(-1).content, "It's $HOME and `date`");
    assert.equal(body.messages.length, 6);
    assert.deepEqual([body.temperature, body.max_tokens, body.seed, body.stream], [0, 24, 7, true]);
    await page.click("#curl-box summary");
  });

  await check("what the server finds wrong with a setting is shown", async () => {
    const {error} = await (await post({messages: [{role: "user", content: "Hi"}], temperature: 99})).json();
    await page.fill("#temperature", "99");
    await page.click("#send");
    await until(() => !document.querySelector("#error").hidden);
    assert.equal(await text("#error"), error.message);
    await page.fill("#temperature", "0.8");
  });

  await check("the dashboard and the mesh move while an answer comes, and Stop ends it in the server too", async () => {
    await settle();
    await page.fill("#max_tokens", "4000");
    await page.fill("#input", "Tell me a very long story about a lighthouse, a fox and the sea.");
    await page.click("#send");
    await until(() => document.querySelector("#running").textContent === "1");
    await until(() => Number(document.querySelector("#rate").textContent) > 0);
    // One user: on one column, on each of its three rows.
    await until(() => document.querySelectorAll(".device .slot.taken").length === 3);
    const columns = await page.evaluate(() => [...document.querySelectorAll(".device")]
      .map((device, i) => device.querySelector(".taken") ? i % 2 : -1).filter(c => c >= 0));
    assert.equal(new Set(columns).size, 1);
    assert.equal(await page.locator("#users tr").count(), 1);
    assert.notEqual(await text("#pages"), "0 %");
    assert.match(await text("#pages-note"), /^[1-9]\d* of \d/);
    assert.match(await text("#first"), /ms|s$/);
    assert.match(await text("#gap"), /ms|s$/);
    await page.click("#stop");
    await complete(3);
    const stopped = await answers.nth(2).locator(".text").textContent();
    assert.ok(stopped.length > 0);
    assert.match(await text("#answer-note"), /stopped/);
    await settle();
    await until(() => document.querySelectorAll(".device .slot.taken").length === 0);
    assert.equal(await answers.nth(2).locator(".text").textContent(), stopped);
    assert.match(await text("#hits-note"), /^[1-9]\d* of \d/);  // the second turn began as the first
    assert.ok(await page.locator("#hits-bar").evaluate(bar => bar.getBoundingClientRect().width) >= 1);
  });

  await check("Escape stops as well", async () => {
    await page.fill("#input", "Go on.");
    await page.press("#input", "Enter");
    await until(() => document.querySelectorAll(".turn.assistant")[3]?.lastChild.textContent.length > 10);
    await page.keyboard.press("Escape");
    await complete(4);
    await settle();
  });

  await check("every control can be reached and is seen to have the focus; all have names", async () => {
    const reached = [];
    for (let i = 0; i < 30; ++i) {
      await page.keyboard.press("Tab");
      const now = await page.evaluate(() => {
        const e = document.activeElement;
        return {id: e.id || e.tagName, outline: getComputedStyle(e).outlineStyle,
                name: e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label")};
      });
      if (now.id === "BODY") continue;  // past the last one, and round again
      assert.notEqual(now.outline, "none", now.id);
      assert.ok(now.name, now.id);
      reached.push(now.id);
    }
    for (const id of ["log", "input", "send", "clear", "key", "system", "temperature", "top_p", "max_tokens", "seed"]) {
      assert.ok(reached.includes(id), `${id} in ${reached}`);
    }
  });

  await check("pictures: six users, light, dark and on a phone without sideways scrolling", async () => {
    const control = new AbortController();
    const others = [1, 2, 3, 4, 5].map(n => fetch(`${url}/v1/chat/completions`, {
      method: "POST", headers: {Authorization: `Bearer ${key}`}, signal: control.signal,
      body: JSON.stringify({messages: [{role: "user", content: `Story ${n}.`.repeat(5 * n)}], max_tokens: 4000,
                            ignore_eos: true, stream: true})})
      .then(response => response.text()).catch(() => {}));
    await page.fill("#input", "Tell me another story.");
    await page.press("#input", "Enter");
    await until(() => document.querySelector("#running").textContent === "6");
    await until(() => document.querySelectorAll(".device .slot.taken").length === 18);
    const shoot = name => page.screenshot({path: join(work, `${name}.png`), fullPage: true});
    await page.emulateMedia({colorScheme: "light"});
    await shoot("light");
    await page.emulateMedia({colorScheme: "dark"});
    await shoot("dark");
    for (const width of [320, 800]) {
      await page.setViewportSize({width, height: 640});
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
      await shoot(width === 320 ? "phone" : "tablet");
    }
    await page.setViewportSize({width: 320, height: 640});
    await page.emulateMedia({colorScheme: "light"});
    await shoot("phone-light");
    control.abort();
    await page.keyboard.press("Escape");  // the page's own may have come to its end by now
    await Promise.all(others);
    await settle();
  });

  await check("a server that is gone is told, and its return too", async () => {
    await context.setOffline(true);
    await until(() => document.querySelector("#state").className === "failed");
    await page.fill("#input", "Are you there?");
    await page.click("#send");
    await until(() => /does not answer/.test(document.querySelector("#error").textContent));
    assert.equal(await page.inputValue("#input"), "Are you there?");
    await context.setOffline(false);
    await until(() => document.querySelector("#state").textContent === "ready");
  });

  await check("a new chat is empty", async () => {
    await page.click("#clear");
    assert.equal(await page.locator(".turn").count(), 0);
    assert.equal(await page.locator("#empty").isVisible(), true);
  });

  await check("nothing was asked of anybody else, and the browser had nothing to complain of", () => {
    assert.deepEqual(strangers, []);
    assert.deepEqual(complaints, []);
  });
} finally {
  await context.close();
  rmSync(profile, {recursive: true, force: true});
}
