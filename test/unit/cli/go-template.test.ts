import assert from 'node:assert/strict';
import { functions } from '../../../src/cli/format/template-functions';
import { parseGoTemplate } from '../../../src/cli/format/go-template';

const data = {
  Name: '/web',
  Config: { Image: 'nginx:1', Env: ['A=1', 'B=2'], Labels: { tier: 'front', 'a.b/c': 'dotted' }, Cmd: null },
  NetworkSettings: { Networks: { bridge: { IPAddress: '172.17.0.2' }, other: { IPAddress: '10.0.0.1' } } },
  Mounts: [
    { Source: '/a', Destination: '/x', RW: true },
    { Source: '/b', Destination: '/y', RW: false },
  ],
  State: { Running: true, ExitCode: 0 },
};

const show = (text: string) => parseGoTemplate(text)(data);

describe("docker's templates", () => {
  const cases: Record<string, string> = {
    '{{.Name}}': '/web',
    '{{ .Config.Image }}!': 'nginx:1!',
    '{{json .Config.Env}}': '["A=1","B=2"]',
    '{{.Config.Env}}': '[A=1 B=2]',
    '{{.Config.Cmd}}': '<no value>',
    '{{json .Config.Cmd}}': 'null',
    '{{index .Config.Labels "a.b/c"}}': 'dotted',
    '{{index .Config.Labels "missing"}}': '',
    '{{index .Config.Env 1}}': 'B=2',
    '{{(index .Mounts 0).Source}}': '/a',
    '{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}': '/a:/x /b:/y ',
    '{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$m.Source}}{{end}}': '/a, /b',
    '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}': '172.17.0.210.0.0.1',
    '{{range $name, $net := .NetworkSettings.Networks}}{{$name}}={{$net.IPAddress}} {{end}}':
      'bridge=172.17.0.2 other=10.0.0.1 ',
    '{{if .State.Running}}up{{else}}down{{end}}': 'up',
    '{{if eq .State.ExitCode 1}}one{{else if eq .State.ExitCode 0}}zero{{else}}more{{end}}': 'zero',
    '{{with .Config.Labels}}{{.tier}}{{end}}': 'front',
    '{{range .Config.Cmd}}x{{else}}none{{end}}': 'none',
    '{{len .Mounts}}': '2',
    '{{join .Config.Env ","}}': 'A=1,B=2',
    '{{.Name | upper | printf "%s-%d" "x" }}': 'x-/WEB',
    '{{printf "%-6s|%4d|%q" .Name .State.ExitCode "q"}}': '/web  |   0|"q"',
    '{{slice .Name 1}}': 'web',
    '{{$x := .Name}}{{$x}}{{/* a comment */}}': '/web',
    '{{range .Mounts}}{{$.Name}}{{end}}': '/web/web',
    'a {{- " b " -}} c': 'a b c',
    '{{println "x" 1}}': 'x 1\n',
    '{{and .State.Running (not .Config.Cmd)}}': 'true',
    '{{.Name}}\\t{{lower "X"}}\\n': '/web\tx\n',
    '{{`raw "quoted" }}`}}': 'raw "quoted" }}',
    '{{split "a,b" ","}}': '[a b]',
    '{{json .State}}': '{"Running":true,"ExitCode":0}',
  };
  for (const [template, expected] of Object.entries(cases)) it(template, () => assert.equal(show(template), expected));

  it('and is false for what is nothing at all, and says so', () => {
    assert.equal(functions['and']?.(null, 'x'), null);
    assert.equal(functions['or']?.(null, ''), '');
  });

  const wrong: Record<string, RegExp> = {
    '{{.Nome}}': /there is no \.Nome; fields are \.Name \.Config /,
    '{{.Name': /not closed with \}\}/,
    '{{if .Name}}x': /an \{\{end\}\} is missing/,
    '{{end}}': /\{\{end|out of place|no beginning/,
    '{{nonsense .Name}}': /there is no function nonsense/,
    '{{.Name .Config}}': /only functions take arguments/,
    '{{index .Mounts 9}}': /index: 9 is out of the list/,
    '{{range .Name}}{{end}}': /needs a list or an object/,
    '{{}}': /an action is empty/,
    '{{$y}}': /there is no variable \$y/,
    '{{(.Name}}': /a parenthesis is not closed/,
    '{{.Name ; }}': /is not understood/,
  };
  for (const [template, message] of Object.entries(wrong))
    it(`refuses ${template}`, () => assert.throws(() => show(template), message));
});
