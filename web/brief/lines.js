/** Converts the checklist between text and rows, in the form that clvr_core/checklist.py reads. */

export const KINDS = ["local", "global", "layout", "text"];
export const NEEDS = ["must", "nice"];

/** @typedef {{ text: string, kind: string, need: string }} Row */

const MARK = /^\[([a-z]+)\]\s*/;

/** @param {string} text @returns {Row[]} */
export function rowsOf(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const row = { text: line, kind: "local", need: "must" };
      for (let mark = MARK.exec(row.text); mark; mark = MARK.exec(row.text)) {
        const word = mark[1] ?? "";
        if (KINDS.includes(word)) row.kind = word;
        else if (NEEDS.includes(word)) row.need = word;
        else break; // not a known mark: the server reports it
        row.text = row.text.slice(mark[0].length);
      }
      return row;
    });
}

/** @param {Row[]} rows */
export function linesOf(rows) {
  return rows
    .filter((row) => row.text.trim())
    .map((row) => `${row.need === "nice" ? "[nice] " : ""}${row.kind === "local" ? "" : `[${row.kind}] `}${row.text.trim().replace(/\s+/g, " ")}`)
    .join("\n");
}
