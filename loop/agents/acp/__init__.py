"""CLI agents that speak the Agent Client Protocol: Claude Code, Codex, Gemini CLI and others."""
