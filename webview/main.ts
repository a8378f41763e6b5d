import './main.css';
import { ChainscopeApp } from './app';
import { connectToShell } from './rpc';
import { registerToolkit } from './toolkit';

registerToolkit();
const app = new ChainscopeApp();
app.host = connectToShell();
document.body.append(app);
