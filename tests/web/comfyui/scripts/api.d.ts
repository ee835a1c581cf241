export const api: import("../../../../web/comfy/runs.js").Api;
