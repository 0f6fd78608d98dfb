"""Models behind an API: Anthropic Messages, OpenAI Responses, Chat Completions."""
