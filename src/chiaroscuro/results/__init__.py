"""Everything that is returned or saved, as frozen typed values, and the one store that keeps it.

No torch and no drawing: views read results, results know no view.
"""

from chiaroscuro.results.folders import check_free as check_free
from chiaroscuro.results.folders import is_result as is_result
from chiaroscuro.results.folders import kind_in as kind_in
from chiaroscuro.results.folders import staged as staged
from chiaroscuro.results.kinds import FIGURE as FIGURE
from chiaroscuro.results.kinds import KINDS as KINDS
from chiaroscuro.results.kinds import PAGE as PAGE
from chiaroscuro.results.kinds import Kind as Kind
from chiaroscuro.results.store import facts_of as facts_of
from chiaroscuro.results.store import load as load
from chiaroscuro.results.store import save as save
from chiaroscuro.results.store import verify as verify
from chiaroscuro.results.verification import Verification as Verification
from chiaroscuro.results.verification import verification as verification
