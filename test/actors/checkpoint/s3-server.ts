/** As much of an S3-compatible store as checkpoints use, over HTTP: objects in memory, put whole or in parts. */

export class S3Server {
  readonly objects = new Map<string, Uint8Array>();
  /** Changes that are granted before every one is refused, as if whoever asks had been killed. */
  changes = Number.POSITIVE_INFINITY;
  /** Keys on a page of a listing. */
  pageKeys = 1000;
  private readonly parts = new Map<string, Uint8Array[]>();
  private readonly server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => this.answer(request),
  });
  private readonly before = new Map<string, string | undefined>();

  get environment(): Record<string, string> {
    return {
      AWS_ACCESS_KEY_ID: "someone",
      AWS_SECRET_ACCESS_KEY: "secret",
      AWS_ENDPOINT_URL: `http://127.0.0.1:${this.server.port}`,
    };
  }

  /** Makes this process's clients use it. */
  open(): this {
    for (const [name, value] of Object.entries(this.environment)) {
      this.before.set(name, process.env[name]);
      process.env[name] = value;
    }
    return this;
  }

  async close(): Promise<void> {
    for (const [name, value] of this.before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    await this.server.stop(true);
  }

  private async answer(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const path = decodeURIComponent(url.pathname).slice(1);
    const signed = request.headers.get("authorization")?.includes("Credential=someone/");
    if (!signed) return failed(403, "InvalidAccessKeyId");
    if (request.method === "GET" && url.searchParams.get("list-type") === "2")
      return this.list(path, url.searchParams);
    if (request.method === "GET" || request.method === "HEAD") {
      const object = this.objects.get(path);
      return object
        ? new Response(request.method === "GET" ? object.slice() : null)
        : failed(404, "NoSuchKey");
    }
    const upload = url.searchParams.get("uploadId");
    const body = new Uint8Array(await request.arrayBuffer());
    if (this.changes <= 0) return failed(403, "AccessDenied");
    if (request.method === "POST" && upload === null) {
      const id = `upload-${this.parts.size}`;
      this.parts.set(id, []);
      return xml(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
    }
    if (request.method === "PUT" && upload !== null) {
      this.parts.get(upload)![Number(url.searchParams.get("partNumber")) - 1] = body;
      return new Response(null, { headers: { etag: '"part"' } });
    }
    this.changes--;
    if (request.method === "POST") {
      this.objects.set(path, Buffer.concat(this.parts.get(upload!)!));
      return xml('<CompleteMultipartUploadResult><ETag>"whole"</ETag></CompleteMultipartUploadResult>');
    }
    if (request.method === "PUT") {
      this.objects.set(path, body);
      return new Response(null, { headers: { etag: '"whole"' } });
    }
    this.objects.delete(path);
    return new Response(null, { status: 204 });
  }

  private list(bucket: string, query: URLSearchParams): Response {
    const prefix = bucket.replace(/\/?$/, "/") + (query.get("prefix") ?? "");
    const after = query.get("start-after");
    const name = (path: string) => path.slice(path.indexOf("/") + 1);
    const keys = [...this.objects.keys()]
      .filter((path) => path.startsWith(prefix))
      .map(name)
      .sort();
    const rest = keys.filter((key) => after === null || key > after);
    const page = rest.slice(0, this.pageKeys);
    const contents = page.map((key) => `<Contents><Key>${key}</Key><Size>1</Size></Contents>`).join("");
    const head = `<KeyCount>${page.length}</KeyCount><IsTruncated>${page.length < rest.length}</IsTruncated>`;
    return xml(`<ListBucketResult>${head}${contents}</ListBucketResult>`);
  }
}

function xml(text: string): Response {
  return new Response(`<?xml version="1.0" encoding="UTF-8"?>${text}`);
}

function failed(status: number, code: string): Response {
  return new Response(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`, {
    status,
  });
}
