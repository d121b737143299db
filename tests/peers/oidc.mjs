// A real OpenID provider for tests: `oidc.mjs TLS-FOLDER SECRET-FILE LISTENING-FILE`.
//
// alice signs in with two factors, bob with one; consent is automatic. The passwords are public.
// Environment: REDIRECT (where browsers are sent back), LOGOUT (back-channel logout), GATEWAY_CA (who signs for that).
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync, renameSync } from 'node:fs';
import https from 'node:https';
import Provider from 'oidc-provider';

const [tls, secretFile, listening] = process.argv.slice(2);
const env = process.env;
const users = {
  alice: {
    password: 'alice-pass-2026', sub: 'alice-0001', name: 'Alice Example', preferred_username: 'alice', uid: 'a.example',
    email: 'alice@uni-a.example', groups: ['/vo-imaging', '/vo-imaging/scientists'],
    eduperson_scoped_affiliation: ['faculty@uni-a.example'],
    acr: 'https://refeds.org/profile/mfa', amr: ['pwd', 'otp'],
  },
  bob: {
    password: 'bob-pass-2026', sub: 'bob-0002', name: 'Bob Example', preferred_username: 'bob', uid: 'b.example',
    email: 'bob@hospital-b.example', groups: ['/vo-imaging'],
    eduperson_scoped_affiliation: ['member@hospital-b.example'],
    acr: 'https://refeds.org/profile/sfa', amr: ['pwd'],
  },
};
const by = (sub) => Object.values(users).find((user) => user.sub === sub);

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const key = { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: randomUUID() };

// Names below `localhost` are this machine, whatever the resolver knows of them.
const lookup = (_name, options, done) =>
  options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4);
const call = (url, { method = 'GET', headers, body } = {}) => new Promise((answered, failed) => {
  const ca = env.GATEWAY_CA ? readFileSync(env.GATEWAY_CA) : undefined;
  const plain = Object.fromEntries(new Headers(headers));
  const request = https.request(url, { method, headers: plain, ca, lookup }, (answer) => {
    answer.resume();
    answer.on('end', () => answered(new Response(null, { status: answer.statusCode })));
  });
  request.on('error', failed);
  request.end(body === undefined ? undefined : String(body));
});

const server = https.createServer({ key: readFileSync(`${tls}/server.key`), cert: readFileSync(`${tls}/server.pem`) });
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const issuer = `https://localhost:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'gateway',
    client_secret: readFileSync(secretFile, 'utf8').trim(),
    redirect_uris: (env.REDIRECT || 'https://gateway.example/callback').split(','),
    response_types: ['code'],
    grant_types: ['authorization_code'],
    token_endpoint_auth_method: 'client_secret_basic',
    ...(env.LOGOUT && { backchannel_logout_uri: env.LOGOUT }),
  }],
  jwks: { keys: [key] },
  cookies: { keys: [randomUUID()] },
  scopes: ['openid', 'profile', 'email', 'groups'],
  claims: {
    openid: ['sub', 'acr', 'amr', 'auth_time'],
    profile: ['name', 'preferred_username', 'uid'],
    email: ['email'],
    groups: ['groups', 'eduperson_scoped_affiliation'],
  },
  conformIdTokenClaims: false,
  acrValues: ['https://refeds.org/profile/mfa', 'https://refeds.org/profile/sfa'],
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false }, backchannelLogout: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  fetch: call,
  async loadExistingGrant(ctx) {
    const { client, session } = ctx.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid profile email groups');
    await grant.save();
    return grant;
  },
  async findAccount(_ctx, sub) {
    const user = by(sub);
    if (!user) return undefined;
    const { password, acr, amr, ...claims } = user;
    return { accountId: sub, claims: async () => claims };
  },
});
provider.on('server_error', (_ctx, error) => console.error(error));
provider.on('grant.error', (_ctx, error) => console.error(error.message, error.error_detail));
provider.on('backchannel.error', (_ctx, error) => console.error('back-channel logout:', error));

const send = (answer, status, text) => {
  answer.writeHead(status, { 'content-type': 'text/html', 'cache-control': 'no-store' });
  answer.end(text);
};
const form = async (request) => {
  let text = '';
  for await (const part of request) text += part;
  return new URLSearchParams(text);
};
const serve = provider.callback();
server.on('request', async (request, answer) => {
  try {
    if (!new URL(request.url, issuer).pathname.startsWith('/interaction/')) return await serve(request, answer);
    await provider.interactionDetails(request, answer);
    if (request.method !== 'POST') {
      return send(answer, 200, '<form method="post"><input name="login"><input name="password" type="password"><button>Sign in</button></form>');
    }
    const given = await form(request);
    if (given.get('cancel')) {
      const denied = { error: 'access_denied', error_description: 'the person went away' };
      return await provider.interactionFinished(request, answer, denied, { mergeWithLastSubmission: false });
    }
    const user = users[given.get('login')];
    if (!user || user.password !== given.get('password')) return send(answer, 401, 'not right');
    const login = { login: { accountId: user.sub, acr: user.acr, amr: user.amr } };
    return await provider.interactionFinished(request, answer, login, { mergeWithLastSubmission: false });
  } catch (error) {
    return send(answer, 500, String(error?.message));
  }
});
writeFileSync(`${listening}.part`, `ISSUER=${issuer}\n`);
renameSync(`${listening}.part`, listening);
