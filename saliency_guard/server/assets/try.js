"use strict";
(() => {
  const find = (name) => document.getElementById(name);
  const state = { pictures: [] };

  const read = (file) => new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });

  function tell(text, wrong = false) {
    find("status").textContent = text;
    find("status").classList.toggle("wrong", wrong);
  }

  async function take(files) {
    state.pictures = await Promise.all([...files].map(read));
    find("names").textContent = [...files].map((file) => file.name).join(", ") || "Choose pictures, or drop them here";
    find("thumbs").replaceChildren(...state.pictures.map((url) => Object.assign(document.createElement("img"), { src: url, alt: "" })));
    tell("");
  }

  find("file").addEventListener("change", (event) => take(event.target.files));
  const drop = find("drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") take(event.dataTransfer.files);
    });
  }

  find("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!state.pictures.length) return tell("Choose a picture first.", true);
    const content = state.pictures.map((url) => ({ type: "image_url", image_url: { url } }));
    content.push({ type: "text", text: find("question").value });
    const body = { messages: [{ role: "user", content }] };
    if (find("answer").value.trim()) {
      body.text = find("answer").value;
    } else {
      body.max_tokens = Number(find("tokens").value);
      body.temperature = Number(find("temperature").value);
    }
    find("ask").disabled = true;
    tell("Looking ...");
    try {
      // An address that was opened with its password in it cannot be asked for as it is.
      const reply = await fetch(new URL("v1/page", location.origin + location.pathname), { method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body) });
      const told = await reply.json();
      if (!reply.ok) throw new Error(told.error ? told.error.message : `the server answered ${reply.status}`);
      find("page").srcdoc = told.html;
      find("page").hidden = false;
      tell("");
    } catch (error) {
      tell(error.message, true);
    } finally {
      find("ask").disabled = false;
    }
    return undefined;
  });
})();
