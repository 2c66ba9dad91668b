import js from "@eslint/js";

export default [
  { ignores: ["dist/"] },
  js.configs.recommended,
  // Unknown names are the type checker's business.
  { rules: { "no-undef": "off", eqeqeq: "error", "prefer-const": "error", "no-var": "error" } },
];
