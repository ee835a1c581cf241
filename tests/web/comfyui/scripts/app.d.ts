// What the pack takes from ComfyUI's front end.
export const app: { registerExtension(extension: object): void; extensionManager: any; graph: any; dragOverNode?: unknown; canvasEl: HTMLCanvasElement };
