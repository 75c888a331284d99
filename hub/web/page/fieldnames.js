/**
 * The fields of the newest records: what completion, the facets and the charts offer.
 *
 * Always true: they are asked for at most every `EVERY_MS`; after a broken connection, at the next occasion.
 */

import { BROKEN } from "./rpc.js";

const EVERY_MS = 30_000;
const OFFERED = 200;

export class FieldNames {
  /** `onLearned` is called with the names when they are known. */
  constructor(rpc, onLearned) {
    this.rpc = rpc;
    this.onLearned = onLearned;
    this.fields = [];
    this.askedAt = -Infinity;
  }

  async learn() {
    if (performance.now() - this.askedAt < EVERY_MS) return;
    this.askedAt = performance.now();
    try {
      await this.rpc.stream("fields", {}, ({ fields }) => {
        this.fields = fields;
        this.onLearned(fields.slice(0, OFFERED).map(({ name }) => name));
      });
    } catch (error) {
      if (error.code === BROKEN) this.askedAt = -Infinity;
    }
  }
}
