"""Training methods: one module per method, registered in the list below."""

from cpsc_train.methods.agm import AGMConfig
from cpsc_train.methods.arl import ARLConfig
from cpsc_train.methods.base import Method, PartFeatures, StepLosses, head_cross_entropy
from cpsc_train.methods.conformal_training import ConformalTrainingConfig
from cpsc_train.methods.cpsc import CPSCConfig, LiteralConfig, ReleasedConfig
from cpsc_train.methods.dbf import DBFConfig
from cpsc_train.methods.dgl import DGLConfig
from cpsc_train.methods.di_mml import DIMMLConfig
from cpsc_train.methods.eau import EAUConfig
from cpsc_train.methods.evidential import ECMLConfig, TMCConfig
from cpsc_train.methods.inforeg import InfoRegConfig
from cpsc_train.methods.iprm import IPRMConfig
from cpsc_train.methods.joint import JointConfig, JointUnimodalConfig
from cpsc_train.methods.lfm import LFMConfig
from cpsc_train.methods.mla import MLAConfig
from cpsc_train.methods.mmpareto import MMParetoConfig
from cpsc_train.methods.mnl import MNLConfig
from cpsc_train.methods.modality_dropout import ModalityDropoutConfig
from cpsc_train.methods.ogm_ge import OGMGEConfig
from cpsc_train.methods.options import MethodConfig, Range
from cpsc_train.methods.pdf import PDFConfig
from cpsc_train.methods.pmr import PMRConfig
from cpsc_train.methods.qmf import QMFConfig
from cpsc_train.methods.reconboost import ReconBoostConfig
from cpsc_train.methods.relearning import RelearningConfig
from cpsc_train.methods.rows import RowTable
from cpsc_train.methods.smv import SMVConfig

MethodConfig.register(
    AGMConfig,
    ARLConfig,
    ConformalTrainingConfig,
    CPSCConfig,
    LiteralConfig,
    ReleasedConfig,
    DBFConfig,
    DGLConfig,
    DIMMLConfig,
    EAUConfig,
    ECMLConfig,
    InfoRegConfig,
    IPRMConfig,
    JointConfig,
    JointUnimodalConfig,
    LFMConfig,
    MLAConfig,
    MMParetoConfig,
    MNLConfig,
    ModalityDropoutConfig,
    OGMGEConfig,
    PDFConfig,
    PMRConfig,
    QMFConfig,
    ReconBoostConfig,
    RelearningConfig,
    SMVConfig,
    TMCConfig,
)

__all__ = ["Method", "MethodConfig", "PartFeatures", "Range", "RowTable", "StepLosses", "head_cross_entropy"]
