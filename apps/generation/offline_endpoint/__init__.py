"""A small HTTP server that speaks the chat-completions protocol and answers from hand-written banks; no model, no network, no Django."""
