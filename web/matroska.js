// A dropped .mkv brings its workflow back, as .webm does: both are Matroska files, but the editor knows only one name.
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "SoraDiT.MatroskaWorkflow",
  setup() {
    document.addEventListener(
      "drop",
      (event) => {
        const file = event.dataTransfer?.files?.[0];
        if (!file || !/\.mkv$/i.test(file.name) || app.dragOverNode) return; // a node under the pointer goes first
        event.preventDefault();
        event.stopImmediatePropagation();
        app.handleFile(new File([file], file.name.replace(/\.mkv$/i, ".webm"), { type: "video/webm" }));
      },
      true, // before the editor, which would say that it cannot read the file
    );
  },
});
