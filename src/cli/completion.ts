import { Argument, type Command } from 'commander';
import { print } from './output';

/** Scripts that ask `berth __complete` what may come next. */
const scripts: Readonly<Record<string, string>> = {
  bash: `_berth() {
  local IFS=$'\\n'
  local words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  COMPREPLY=($(berth __complete -- "\${words[@]}" 2>/dev/null))
  [[ \${#COMPREPLY[@]} -gt 0 ]] || compopt -o default
}
complete -F _berth berth
`,
  zsh: `#compdef berth
_berth() {
  local -a found
  found=("\${(@f)$(berth __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  found=(\${found:#})
  if (( \${#found} )); then compadd -- "\${found[@]}"; else _files; fi
}
compdef _berth berth
`,
  fish: `function __berth_complete
    set -l words (commandline -opc) (commandline -ct)
    berth __complete -- $words[2..-1] 2>/dev/null
end
complete -c berth -a '(__berth_complete)'
`,
};

export function define(command: Command): void {
  command
    .usage('SHELL')
    .addArgument(new Argument('<shell>', 'whose it is').choices(Object.keys(scripts)))
    .addHelpText(
      'after',
      '\nExample: source <(berth completion bash)\n         berth completion zsh > "${fpath[1]}/_berth"' +
        '\n         berth completion fish > ~/.config/fish/completions/berth.fish',
    )
    .action(async (shell: string) => print(scripts[shell] ?? ''));
}
