// A session with the generated types: list, delete, restore, collect and wait.
// Usage: session.js REPOSITORY TAG, with API and TOKEN in the environment.

import createClient from "openapi-fetch";

import type { components, paths } from "./registry-admin";

type Schemas = components["schemas"];

const client = createClient<paths>({
  baseUrl: process.env.API ?? "",
  headers: { Authorization: `Bearer ${process.env.TOKEN ?? ""}` },
});
const registry = "default";

/** Gives the answer, or ends with what the service says is wrong. */
function got<Answer>(answer: { data?: Answer; error?: Schemas["Problem"] }): Answer {
  if (answer.data === undefined) {
    throw new Error(`refused: ${answer.error?.code}: ${answer.error?.detail}`);
  }
  return answer.data;
}

/** Gives the names of all repositories, page by page. */
async function repositories(): Promise<string[]> {
  const names: string[] = [];
  let last: string | undefined;
  do {
    const page = got(
      await client.GET("/v1/registries/{registry}/repositories", {
        params: { path: { registry }, query: { n: 1000, last } },
      }),
    );
    names.push(...page.items.map((one) => one.name));
    last = new URLSearchParams(page.next?.split("?")[1] ?? "").get("last") ?? undefined;
  } while (last !== undefined);
  return names;
}

/** Waits for the end of a job. */
async function finished(job: Schemas["Job"]): Promise<Schemas["Job"]> {
  let seen = job;
  while (seen.state === "queued" || seen.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    seen = got(await client.GET("/v1/jobs/{job_id}", { params: { path: { job_id: job.id } } }));
  }
  return seen;
}

async function main(repository: string, tag: string): Promise<void> {
  console.log("repositories:", ...(await repositories()));
  const path = { registry, repository };
  const page = got(
    await client.GET("/v1/registries/{registry}/repositories/{repository}/-/tags", {
      params: { path, query: { detail: true } },
    }),
  );
  console.log("tags:", ...page.items.map((one) => one.name));

  const tagPath = "/v1/registries/{registry}/repositories/{repository}/-/tags/{tag}";
  const named = { params: { path: { ...path, tag } } };
  const deletion = got(await client.DELETE(tagPath, named));
  const count = deletion.manifests_removed.length;
  console.log("deleted:", ...deletion.tags_removed, `with ${count} manifests`);
  const { error } = await client.GET(tagPath, named);
  console.log("a problem:", error?.code, error?.status);

  const restored = got(
    await client.POST("/v1/registries/{registry}/deletions/{deletion_id}/restore", {
      params: { path: { registry, deletion_id: deletion.id ?? "" } },
      body: { force: false },
    }),
  );
  console.log("restored:", ...restored.tags_restored);

  const started = await client.POST("/v1/registries/{registry}/gc-runs", {
    params: { path: { registry }, header: { Prefer: "wait=60" } },
    body: { mode: "read-only" },
  });
  const job = await finished(got(started));
  if (!job.result) {
    throw new Error(`collection ${job.state}: ${JSON.stringify(job.error)}`);
  }
  console.log("collection", job.state, "freed", job.result.bytes_freed, "bytes");
}

const [repository = "", tag = ""] = process.argv.slice(2);
main(repository, tag).catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
