import eslint from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

export default defineConfig(
  globalIgnores(['dist/', 'build/', 'bin/', 'coverage/', 'src/cri/generated/']),
  eslint.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      // What `using` closes, and `finally` undoes, is still there while the promise is under way.
      '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
      // An async function without await turns what it throws into a rejection: often the reason why it is async.
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrors: 'none' },
      ],
      // Control characters are looked for on purpose: they come in hostile names.
      'no-control-regex': 'off',
      // Besides literals, what is thrown is what was caught: whatever it was, it stays that.
      '@typescript-eslint/only-throw-error': 'off',
      'no-throw-literal': 'error',
      eqeqeq: 'error',
      'no-restricted-properties': [
        'error',
        { object: 'AbortSignal', property: 'any', message: 'It lets time-outs be collected: base/any-signal.ts.' },
      ],
    },
  },
  {
    files: ['scripts/**', '*.mjs'],
    languageOptions: {
      globals: {
        Buffer: 'readonly',
        __dirname: 'readonly',
        console: 'readonly',
        module: 'readonly',
        process: 'readonly',
        require: 'readonly',
        __filename: 'readonly',
      },
    },
  },
);
