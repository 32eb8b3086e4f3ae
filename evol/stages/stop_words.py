"""Words that say nothing by themselves, for the paper's third rule: a response of nothing but these is no response.

Words that can be a whole answer are left out on purpose: yes and no, quantities (all, both, none, more), directions and
times (up, before, now, May). The other languages are apart from English, because what is a stop word in one can be a
noun in another ("war", "hat").
"""

from __future__ import annotations

ENGLISH = frozenset(
    """
    an the and but or nor if as than that this these those so such because while although though unless until since
    of at by for with about against between into through during from to via per upon within without toward towards
    me my mine myself we us our ours ourselves you your yours yourself yourselves him his himself her hers herself it
    its itself they them their theirs themselves what which who whom whose
    am is are was were be been being have has had having do does did doing would shall should can could might
    must ought i'm you're he's she's it's we're they're i've you've we've they've i'd i'll you'll we'll
    there just very too also only own same other some any each every few most
    """.split()
)
OTHERS = frozenset(
    """
    der die das den dem des ein eine einer eines einem einen und oder aber wenn als wie dass weil denn doch zu zum zur
    von vom mit bei nach aus für über unter um ist sind war waren sein bin bist hat haben hatte wird werden wurde ich du
    er sie es wir ihr mich mir dich dir ihn ihm uns euch sich auch nur sehr so
    le la les un une des du de et ou mais donc car que qui quoi dont où ce cet cette ces se si dans par pour sur avec
    sans sous est sont était être ai as ont avait avoir je tu il elle nous vous ils elles me te lui leur son sa ses mon
    ma mes ton ta tes notre votre aussi très plus ne pas
    el los las una unos unas y o pero porque como cuando donde quien cuyo al del en con por para sin sobre entre es son
    era ser estar está están fue han ha haber yo tú él ella nosotros ellos ellas me te se lo le les su sus mi mis tu tus
    muy también
    os um uma uns umas e ou mas porque quando onde quem ao à do da dos das em na nos nas com por para sem sobre entre
    é são era ser estar está eu ele ela nós eles elas me te se lhe seu sua seus suas meu minha muito também
    il lo gli uno ed ma perché quando dove chi cui al dello della dei degli delle nel nella con per tra fra è sono
    essere ho hai ha abbiamo hanno io lui lei noi voi loro mi ti ci vi si suo sua mio mia molto anche
    het een de en of maar want dat die dit deze te van met bij voor naar uit om op in aan is zijn was waren heeft hebben
    had wordt worden ik jij hij zij wij jullie mij hem haar ons ook zeer
    и в во не что он на я с со как а то все она так его но ты к у же вы за бы по ее мне было вот от меня о из ему
    это для мы их чем была сам чтоб без будто чего
    は が の を に へ と で も や から まで より です ます だ である これ それ あれ この その あの
    的 了 和 是 在 我 你 他 她 它 们 我们 你们 他们 这 那 这个 那个 也 就 都 而 及 与 着 或
    """.split()
)
