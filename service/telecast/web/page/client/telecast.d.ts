export declare const AMBER_MS = 2000;
export declare const RED_MS = 10000;
export declare const STALE_AFTER_MS: {
    "market-data": number;
    positions: number;
    "trader-status": number;
    "risk-alerts": null;
};
export declare const MOST_ROWS = 20000;
export type Filter = {
    [field: string]: string | string[];
};
export type Row = {
    [field: string]: any;
};
export type Changed = {
    keys: Set<string> | null;
    event: object | null;
};
export type Refinement = {
    add?: Filter;
    remove?: Filter;
};
export type Options = {
    /**
     * an API key; without one, and without `ticket`, the browser's session
     */
    key?: string | null;
    /**
     * resolves to a ticket, for pages elsewhere
     */
    ticket?: (() => Promise<string>) | null;
    /**
     * where no WebSocket gets through, the same stream comes as SSE
     */
    transport?: "sse" | "websocket";
    fetch?: typeof globalThis.fetch;
    WebSocket?: typeof globalThis.WebSocket;
    prepare?: boolean;
};
export type Change = {
    channel?: string;
    /**
     * `leave`: the filter does not take this row any more
     */
    op?: "upsert" | "delete" | "append" | "leave";
    key?: string;
    row?: Row;
    /**
     * where to go on once this is handled
     */
    position: string | null;
    event?: {
        [field: string]: any;
    };
    state?: string;
    message?: {
        [field: string]: any;
    };
};
/** @typedef {{ [field: string]: string | string[] }} Filter values that pass, by filter field */
/** @typedef {{ [field: string]: any }} Row a payload: decimals and instants are strings */
/** @typedef {{ keys: Set<string> | null, event: object | null }} Changed */
/** @typedef {{ add?: Filter, remove?: Filter }} Refinement values that come in, values that go */
/**
 * @typedef {object} Options
 * @property {string | null} [key] an API key; without one, and without `ticket`, the browser's session
 * @property {(() => Promise<string>) | null} [ticket] resolves to a ticket, for pages elsewhere
 * @property {"sse" | "websocket"} [transport] where no WebSocket gets through, the same stream comes as SSE
 * @property {typeof globalThis.fetch} [fetch]
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {boolean} [prepare]
 */
/**
 * @typedef {object} Change one event, or with `state` what happened to the connection in between
 * @property {string} [channel]
 * @property {"upsert" | "delete" | "append" | "leave"} [op] `leave`: the filter does not take this row any more
 * @property {string} [key]
 * @property {Row} [row]
 * @property {string | null} position where to go on once this is handled
 * @property {{ [field: string]: any }} [event]
 * @property {string} [state]
 * @property {{ [field: string]: any }} [message]
 */
export declare const States: Readonly<{
    LOADING: "loading";
    LIVE: "live";
    DELAYED: "delayed";
    RECONNECTING: "reconnecting";
    STALE: "stale";
    NOT_VISIBLE: "not visible";
    EMPTY: "empty";
    DOWN: "down";
    UNKNOWN: "unknown";
    ENDED: "ended";
    NEVER: "never published";
}>;
export declare function newLink(now: any): {
    phase: string;
    since: any;
    begunAt: any;
    heardAt: null;
    lag: null;
    beatMs: number;
    unreached: number;
    retryAt: null;
    why: null;
    liveAt: null;
    notice: null;
    ended: null;
    stale: {};
};
export declare function foldLink(link: any, item: any, message: any, offset?: number): any;
export declare function delayOf(link: any, now: any): number | null;
export declare function connection(link: any, now: any): {
    state: any;
    level: string;
    since: any;
};
export declare function freshness(link: any, facts: any, now: any, offset?: number): {
    level: string;
    since: any;
    state: any;
    age: number | null;
};
export declare function rowIsFresh(channelState: any, at: any, staleAfter: any, now: any, offset?: number): boolean;
export declare function staleAfterOf(entry: any, name?: any): any;
export declare function judgedByService(entry: any): boolean;
export declare class Clock {
    offset: number;
    doubt: null;
    measure(ask: any, now?: () => number, ticks?: () => number): Promise<boolean>;
}
export declare class Rows {
    #private;
    rows: Map<any, any>;
    left: Map<any, any>;
    lastAt: Map<any, any>;
    whole: Set<any>;
    pending: Map<any, any>;
    dirty: Map<any, any>;
    named: Set<any> | null;
    constructor();
    of(channel: any): any;
    apply(message: any): void;
    forget(channel: any): void;
    takeDirty(): Map<any, any>;
    dump(): {
        rows: Map<any, any>;
        left: Map<any, any>;
        lastAt: Map<any, any>;
        whole: Set<any>;
        pending: Map<any, any>;
        named: Set<any> | null;
    };
    load(state: any): void;
}
export declare class Refused extends Error {
    constructor({ code, message, advice, retryable, details }: {
        advice?: string | undefined;
        code: any;
        details?: null | undefined;
        message: any;
        retryable?: boolean | undefined;
    }, status?: number);
}
export declare class SseParser {
    #private;
    retry: null;
    comments: number;
    feed(text: any): {
        name: string;
        text: string;
        id: null;
    }[];
}
export declare class Stream {
    #private;
    query: {};
    position: any;
    constructor({ url, query, headers, ticket, transport, emit, fetch, WebSocket, now, random, }: {
        WebSocket?: {
            new (url: string | URL, protocols?: string | string[]): WebSocket;
            prototype: WebSocket;
            readonly CONNECTING: 0;
            readonly OPEN: 1;
            readonly CLOSING: 2;
            readonly CLOSED: 3;
        } | undefined;
        emit: any;
        fetch?: ((...all: any[]) => Promise<Response>) | undefined;
        headers?: {} | undefined;
        now?: (() => number) | undefined;
        query?: {} | undefined;
        random?: (() => number) | undefined;
        ticket?: null | undefined;
        transport?: string | undefined;
        url: any;
    });
    /** @param {Refinement} refinement */
    refine({ add, remove }: Refinement): void;
    open(since?: any): void;
    close(): void;
    check(): void;
}
export declare class View {
    #private;
    staleAfter: any;
    judged: boolean;
    constructor({ client, channel, filter, onchange, now }: {
        channel: any;
        client: any;
        filter?: {} | undefined;
        now?: (() => number) | undefined;
        onchange?: (() => void) | undefined;
    });
    get freshness(): {
        level: string;
        since: any;
        state: any;
        age: number | null;
    };
    /** @param {Refinement} refinement */
    refine(refinement: Refinement): void;
    /** @returns {string} one of `States`; only `live` means that the rows are how it is */
    get state(): string;
    /** @returns {{ [field: string]: any } | null} why it will not come back; null while it may */
    get ended(): {
        [field: string]: any;
    } | null;
    /** @returns {string | null} why it is not live, in a sentence, where that is known */
    get reason(): string | null;
    /** @returns {string | null} */
    get position(): string | null;
    /** @returns {number} */
    get size(): number;
    /** @param {string} key @returns {boolean} */
    has(key: string): boolean;
    /** @param {string} key @returns {Row | undefined} */
    get(key: string): Row | undefined;
    /** @returns {Generator<[string, Row], void, unknown>} */
    [Symbol.iterator](): Generator<[string, Row], void, unknown>;
    close(): void;
}
export declare class Client {
    #private;
    url: string;
    transport: "sse" | "websocket";
    clock: Clock;
    options: {
        [k: string]: {
            new (url: string | URL, protocols?: string | string[]): WebSocket;
            prototype: WebSocket;
            readonly CONNECTING: 0;
            readonly OPEN: 1;
            readonly CLOSING: 2;
            readonly CLOSED: 3;
        } | typeof fetch | undefined;
    };
    headers: {
        "X-API-Key"?: undefined;
    } | {
        "X-API-Key": string;
    };
    fetch: typeof fetch;
    ticket: (() => Promise<any>) | null;
    ready: Promise<void>;
    /** @param {string} [url] @param {Options} [options] */
    constructor(url?: string, { key, ticket, transport, fetch, WebSocket, prepare }?: Options);
    staleAfter(channel: any): any;
    judged(channel: any): boolean;
    stream(query: any, emit: any, more?: {}): Stream;
    answer(method: any, path: any, body: any, headers?: {}): Promise<{
        data: any;
        at: number;
    }>;
    call(method: any, path: any, body: any, headers: any): Promise<any>;
    /** @returns {Promise<{ [field: string]: any }[]>} */
    channels(): Promise<{
        [field: string]: any;
    }[]>;
    /**
     * @param {string} channel
     * @param {{ filter?: Filter, onchange?: (view: View, changed: Changed) => void }} [options]
     */
    view(channel: string, { filter, onchange }?: {
        filter?: Filter;
        onchange?: (view: View, changed: Changed) => void;
    }): View;
    /**
     * @param {string | string[]} channels
     * @param {{ since?: string | null, filter?: Filter, delivery?: "all" | "conflated", signal?: AbortSignal | null }} [options]
     * @returns {AsyncGenerator<Change, void, unknown> & { refine(refinement: Refinement): void }}
     */
    follow(channels: string | string[], { since, filter, delivery, signal }?: {
        since?: string | null;
        filter?: Filter;
        delivery?: "all" | "conflated";
        signal?: AbortSignal | null;
    }): AsyncGenerator<Change, void, unknown> & {
        refine(refinement: Refinement): void;
    };
    /**
     * @param {string} channel
     * @param {Row | Row[]} row
     * @param {{ idempotencyKey?: string, attempts?: number }} [options]
     * @returns {Promise<{ [field: string]: any }>}
     */
    publish(channel: string, row: Row | Row[], { idempotencyKey, attempts }?: {
        idempotencyKey?: string;
        attempts?: number;
    }): Promise<{
        [field: string]: any;
    }>;
    /**
     * @param {string} id
     * @param {{ note?: string, undo?: boolean }} [options]
     * @returns {Promise<{ [field: string]: any }>}
     */
    acknowledge(id: string, { note, undo }?: {
        note?: string;
        undo?: boolean;
    }): Promise<{
        [field: string]: any;
    }>;
    /**
     * @param {string} channel
     * @param {{ after?: string | null, to?: string | null, limit?: number, filter?: Filter }} [options]
     * @returns {Promise<any>}
     */
    history(channel: string, { after, to, limit, filter }?: {
        after?: string | null;
        to?: string | null;
        limit?: number;
        filter?: Filter;
    }): Promise<any>;
    /**
     * @param {string} channel
     * @param {{ limit?: number, cursor?: string | null, filter?: Filter }} [options]
     * @returns {Promise<any>}
     */
    snapshot(channel: string, { limit, cursor, filter }?: {
        limit?: number;
        cursor?: string | null;
        filter?: Filter;
    }): Promise<any>;
}
