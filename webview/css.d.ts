/** esbuild gathers these into dist/webview/main.css. */
declare module '*.css';
