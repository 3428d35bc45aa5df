// A dropped .mkv brings its workflow back, as .webm does: both are Matroska files, but the editor knows only one name.
import { app } from "../../scripts/app.js";

const LOOKED_AT = 1 << 22; // bytes; tags lie before the pictures or, in small files, behind them

async function open(file) {
  const parts = [file.slice(0, LOOKED_AT), file.slice(-LOOKED_AT)];
  const texts = await Promise.all(parts.map((part) => part.text()));
  const ours = texts.some((text) => /workflow/i.test(text));
  const renamed = () => new File([file], file.name.replace(/\.mkv$/i, ".webm"), { type: "video/webm" });
  await app.handleFile(ours ? renamed() : file); // others stay what they are
}

app.registerExtension({
  name: "SoraDiT.MatroskaWorkflow",
  setup() {
    // behind every other place that takes files, before the document, where the editor would say that it cannot read it
    document.body.addEventListener("drop", (event) => {
      const [file, ...more] = event.dataTransfer?.files ?? [];
      if (event.defaultPrevented || !file || more.length || !/\.mkv$/i.test(file.name)) return;
      // a node under the pointer goes first: drawn on the canvas, or (Nodes 2.0) an element
      if (app.dragOverNode || event.target?.closest?.("[data-node-id]")) return;
      event.preventDefault();
      event.stopPropagation();
      open(file);
    });
  },
});
